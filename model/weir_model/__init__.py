"""The sequence model of Weir: data, features, generators, training, evaluation and export."""
