"""The station at work: capture, inference, parts, gate, archive, outboxes, and how they are put together."""
