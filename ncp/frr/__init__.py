"""Routing with the outside by FRR: what it is told (pure), its daemons, and what they say."""
