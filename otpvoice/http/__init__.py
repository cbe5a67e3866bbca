"""The HTTP service. Needs ``otpvoice[http]``."""
