"""The only place in gradscope that unpickles or imports what a file or a user names: after consent (--trust).

guest.py runs the user's code and leaves the process as found (surroundings.py); chance.py lends it our
random states. live.py makes the library's own policy with the user's classes in it, live_roles.py and
live_losses.py let the losses call it, gradients.py draws the batches. model.py does any PyTorch model
that a function of the user's gives.
"""
