"""A local ITNIO for tests and trials: see docs/simulator.md."""
