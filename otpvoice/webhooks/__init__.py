"""Events out: what happens is told to the customers' URLs, in the Standard Webhooks format."""
