"""What figures a trial will have, from those that were measured."""
