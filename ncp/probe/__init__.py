"""Crafted packets, and one question asked three ways: what the intent, the programmed flows and the wire say."""
