"""Lab networks as data, and the builder that makes them from namespaces and veth pairs."""
