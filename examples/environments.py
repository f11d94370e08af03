"""One program for development and production: the same secret by name, with another value in each.

tunnelkit environment create production
tunnelkit secret create database HOST=localhost PASSWORD=-    # reads it from standard input
tunnelkit secret create database HOST=db.internal PASSWORD=- --env production

python examples/environments.py                                    # localhost
TUNNELKIT_ENVIRONMENT=production python examples/environments.py   # db.internal
"""

import tunnelkit

database = tunnelkit.Secret.from_name("database", required_keys=["HOST", "PASSWORD"])


def main() -> None:
    values = database.reveal()
    print(f"{database} connects to {values['HOST']} with a password of {len(values['PASSWORD'])} characters")
    info = database.info()
    print(f"Version {info.version}, written by {info.created_by}, has {', '.join(info.keys)}")


if __name__ == "__main__":
    main()
