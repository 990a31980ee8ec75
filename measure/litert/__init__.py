"""TFLite files in LiteRT, and the schema that its package brings along."""
