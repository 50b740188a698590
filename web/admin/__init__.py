"""The pages by which an office is watched: live, history, outbox, clients."""
