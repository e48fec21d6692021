"""An engine in use: chosen, opened, timed, kept apart from the station, checked and built anew."""
