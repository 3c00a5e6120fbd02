"""From datagrams to messages and back: the only code that reads bytes from the network."""
