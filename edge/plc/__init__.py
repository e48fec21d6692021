"""What a station and a PLC say to each other, in any protocol: registers, handshake, words."""
