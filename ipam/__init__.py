"""Who has which address: blocks, subnets, pools, leases. Pure: no clock, no I/O; time is an argument."""
