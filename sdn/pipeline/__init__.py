"""The pipeline as data: what fields and tables there are, what a flow is, and the rules they obey."""
