"""What otpvoice costs, measured beside what the hash alone costs."""
