"""The commands beside the main one, each thin: options in, one call, text out."""
