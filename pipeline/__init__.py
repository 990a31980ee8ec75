"""What a run is: passes in order on one model, measured, held to limits, written and reported."""
