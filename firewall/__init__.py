"""What a policy means: groups, sections, rules and the verdict oracle. Pure."""
