"""Proof of policies: truth tables asked three ways, a conformance suite, cases that can be replayed, previews of changes."""
