"""Old and unusual files brought into the form that the surgery works on."""
