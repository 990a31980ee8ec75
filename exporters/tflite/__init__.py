"""TFLite files, written without TensorFlow, by the schema that LiteRT's package brings along."""
