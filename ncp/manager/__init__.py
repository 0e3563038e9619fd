"""The manager: decides segments, subnets and addresses, and writes each decision on its Kubernetes object.

:mod:`~ncp.manager.decide` and what it uses are pure; :mod:`~ncp.manager.term` and :mod:`~ncp.manager.write` have the
effects; :mod:`~ncp.manager.balancers` and :mod:`~ncp.manager.vips` are the same for the virtual addresses of services,
:mod:`~ncp.manager.outside` and :mod:`~ncp.manager.translations` for the addresses that pods have outside.
:mod:`~ncp.manager.service` runs terms for as long as this replica holds the lease.
"""

from ncp.manager.service import Service, run

__all__ = ["Service", "run"]
