"""Intent to flows, one concern a module. Pure."""
