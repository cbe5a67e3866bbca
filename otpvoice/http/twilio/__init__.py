"""A front in the wire format of Twilio Verify v2, for Twilio's own SDKs."""
