"""`tidings bench`: the gateway against a baseline in plain Python, on the same Kafka in the same run."""
