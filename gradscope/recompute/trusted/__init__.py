"""The only place in gradscope that unpickles or imports what a file or a user names: after consent (--trust).

guest.py runs the user's code and leaves the process as found, chance.py lends it our random states.
policy.py builds the library's own policy with the user's classes, live_roles.py lets the losses call
it; model.py does any PyTorch model that a function of the user's gives.
"""
