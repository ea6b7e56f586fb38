"""Network parts: MLP, encoder, decoder, likelihoods."""
