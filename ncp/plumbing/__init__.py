"""Network devices of a node and its pods: netlink, sysctls and offloads, inside the right network namespace."""
