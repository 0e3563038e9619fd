"""The logical network, its pipeline and compilers (pure), and the transports that reach Open vSwitch."""
