"""What is said: in a file of its own, as handlers have several."""


def hello(who):
    return "hello from " + who
