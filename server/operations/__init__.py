"""What those who run the server look at: health, metrics, logs; and how sign-in is kept from guessing."""
