"""Create the application that gunicorn serves, and in which `flask` runs its commands."""

from app import create_app

app = create_app()
