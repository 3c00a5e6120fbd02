"""Where nodes may be: questions to DNS, and the addresses that are known."""
