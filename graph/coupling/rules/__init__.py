"""One small rule per operator. A module in this folder is found and its rules registered without being listed."""
