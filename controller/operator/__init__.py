"""What an operator asks for, of guests, adoptions, images and volumes: below any interface."""
