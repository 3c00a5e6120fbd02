"""What the image is made of: pinned with hashes, listed, and looked up among known vulnerabilities."""
