"""A .env file becomes a stored secret, and can then be deleted.

python examples/import_dotenv.py .env app     # the next time, it becomes a new version

The command line does the same: tunnelkit secret create app --from-dotenv .env
"""

import sys

import tunnelkit


def main(path: str, name: str) -> None:
    values = tunnelkit.Secret.from_dotenv(path).reveal()
    tunnelkit.Secret.objects.create(name, values, allow_existing=True)
    secret = tunnelkit.Secret.from_name(name)
    if secret.reveal() != values:
        removed = set(secret.info().keys) - set(values)
        secret.update(values, remove=removed)
    info = secret.info()
    print(f"{secret} has {', '.join(info.keys)} in version {info.version}")


if __name__ == "__main__":
    main(*sys.argv[1:])
