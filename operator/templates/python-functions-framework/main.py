"""A function for Google's functions framework."""

import functions_framework


@functions_framework.http
def hello(request):
    if request.method == "POST":
        print("took", len(request.get_data()), "bytes")
        return request.get_data()
    return "Hello from Python\n"
