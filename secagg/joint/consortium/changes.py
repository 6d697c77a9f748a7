"""Changes to a consortium: found one, add or replace a member, change or rotate one's own part, remove a member.

What one organisation changes of itself, the others take over by its member file. Each then compares version and digest
with the others by phone: until they are equal, no job runs that needs approvals.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from secagg.errors import AuthenticationError, UsageError
from secagg.files import write_file
from secagg.home import Home
from secagg.jobs.job import Address
from secagg.joint.consortium.authority import check_chain, read_authority
from secagg.joint.consortium.consortium import Consortium, Removed, Revoked
from secagg.joint.consortium.organisation import (
    ID_BYTES,
    ROLES,
    MemberFile,
    Needed,
    Organisation,
    check_consortium_name,
    member_file,
)
from secagg.joint.consortium.revocation import check_not_revoked, read_lists
from secagg.network.identity import (
    Identity,
    certificate_pem,
    check_certificate,
    create_identity,
    fingerprint,
    load_identity,
)
from secagg.toml_files import FieldFault


def found(
    home: Home,
    name: str,
    me: str,
    *,
    address: Address,
    roles: Sequence[str] = ROLES,
    tables: Sequence[str] = (),
    given: tuple[Path, Path] | None = None,
    authority: Path | None = None,
) -> Consortium:
    """Begin the file of a consortium, with this organisation as its first member.

    Args:
      given: key and certificate, such as one that the company's authority issued; without, those in `keys/`, or new ones.
      authority: a file with the certificates of the company's authority, from the issuer to the root.

    Raises:
      UsageError: there is a consortium already, or something given cannot be used.
    """
    try:
        check_consortium_name(name, "the consortium")
    except FieldFault as fault:
        raise UsageError(str(fault)) from None
    if home.consortium.exists():
        raise UsageError(
            f"{home.consortium} is there already; a folder holds one consortium, so use another --home"
        )
    if given is not None:
        _install(home, me, *given)
    elif not (home.keys / f"{me}.key").exists():
        create_identity(me).save(home.keys)
    identity = own_identity(home, me)
    chain = () if authority is None else read_authority(authority)
    if chain:
        check_chain(identity.certificate, chain)
    member = Organisation(
        name=me,
        id=secrets.token_hex(ID_BYTES),
        serial=1,
        address=address,
        certificate=identity.certificate,
        roles=tuple(roles),
        tables=tuple(tables),
        authority=chain,
    )
    consortium = Consortium(name, me, {me: member})
    consortium.save(home)
    publish(home, consortium, identity)
    return consortium


def own_identity(home: Home, me: str) -> Identity:
    """Return this organisation's key and certificate in its folder; errors as `load_identity`."""
    return load_identity(me, home.keys / f"{me}.key", home.keys / f"{me}.crt")


def publish(home: Home, consortium: Consortium, identity: Identity, previous: Identity | None = None) -> Path:
    """Write this organisation's member file, which goes to the others; return where it is."""
    path = home.path / f"{consortium.me}.member.toml"
    key = None if previous is None else previous.secret_key
    text = member_file(consortium.name, consortium.members[consortium.me], identity.secret_key, key)
    path.unlink(missing_ok=True)
    try:
        write_file(path, text.encode(), mode=0o644)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
    return path


def add(home: Home, told: MemberFile, *, told_fingerprint: str | None = None) -> list[str]:
    """Add a member, or take over what a member changed of itself; return what changed, a sentence each.

    A new certificate of a known member is taken over where its key before signed it, where the same authority issued it,
    or where its fingerprint was told by phone.

    Args:
      told_fingerprint: of the certificate, as told by phone.

    Raises:
      UsageError: of another consortium, older than what is known, revoked, or not valid now.
      AuthenticationError: a new certificate that nothing vouches for.
    """
    with home.transaction():
        consortium = Consortium.load(home)
        member, name = told.member, told.member.name
        if told.consortium != consortium.name:
            raise UsageError(
                f"{name}'s file is for the consortium {told.consortium}, and this is {consortium.name}"
            )
        if name == consortium.me:
            raise UsageError(
                f"{name} is this organisation; change it with `secagg consortium rotate` or `change`"
            )
        check_certificate(member.certificate, name=name)
        shown = fingerprint(member.certificate)
        if shown in {one.fingerprint for one in consortium.revoked}:
            raise UsageError(
                f"{name}'s certificate {shown} is revoked here; ask {name} for its new member file"
            )
        if told_fingerprint is not None and told_fingerprint.strip().upper() != shown.upper():
            raise AuthenticationError(
                f"{name}'s certificate is {shown}, and not the one told by phone; ask {name} what it sent",
                peer=name,
            )
        gone = [one.serial for one in consortium.removed if one.id == member.id]
        if gone and member.serial <= max(gone):
            raise UsageError(
                f"{name} was removed from {consortium.name}; it joins again by a new member file of its own"
            )
        known = consortium.members.get(name)
        revoked = consortium.revoked
        if member.authority:
            check_chain(member.certificate, member.authority)
            check_not_revoked(name, member.certificate, member.authority, read_lists(home))
        if known is None:
            _check_distinct(consortium, member)
            changes = [f"{name} is added, with the certificate {shown}"]
        else:
            changes = _changes(known, told, vouched=told_fingerprint is not None)
            if shown != fingerprint(known.certificate):
                revoked = (*revoked, Revoked(fingerprint(known.certificate), name))
        members = {**consortium.members, name: member}
        replace(consortium, members=members, revoked=revoked).save(home)
        return changes


def change(
    home: Home,
    *,
    address: Address | None = None,
    roles: Sequence[str] | None = None,
    tables: Sequence[str] | None = None,
    needed: Needed | None = None,
    approvers: Mapping[str, bytes] | None = None,
) -> Path:
    """Change what the others know of this organisation; return the member file, which goes to them."""
    with home.transaction():
        consortium = Consortium.load(home)
        own = consortium.members[consortium.me]
        own = replace(
            own,
            serial=own.serial + 1,
            address=own.address if address is None else address,
            roles=own.roles if roles is None else tuple(roles),
            tables=own.tables if tables is None else tuple(tables),
            needed=own.needed if needed is None else needed,
            approvers=own.approvers if approvers is None else dict(approvers),
        )
        consortium = replace(consortium, members={**consortium.members, consortium.me: own})
        identity = own_identity(home, consortium.me)
        consortium.save(home)
        return publish(home, consortium, identity, _set_aside_before(home, consortium.me))


def rotate(
    home: Home, *, new: tuple[Path, Path] | None = None, authority: Path | None = None, lost: bool = False
) -> Path:
    """Replace this organisation's key and certificate; return the member file, which goes to the others.

    The old certificate is revoked here at once, and at each other member when it adds the file. The old files stay in
    `keys/`, under names with their number.

    Args:
      new: key and certificate that the company's authority issued; made here where it is None.
      authority: its certificates, where they are others than before.
      lost: the old key may be in other hands or is gone, so it does not sign. The others then compare the fingerprint.

    Raises:
      UsageError: a key or certificate that cannot be used.
    """
    with home.transaction():
        consortium = Consortium.load(home)
        me = consortium.me
        own = consortium.members[me]
        previous = None if lost else _previous(home, me)
        identity = create_identity(me) if new is None else load_identity(me, *new)
        shown = fingerprint(identity.certificate)
        if shown == fingerprint(own.certificate) or shown in {one.fingerprint for one in consortium.revoked}:
            raise UsageError(f"the certificate {shown} is the one before, or revoked; expected a new one")
        chain = own.authority if authority is None else read_authority(authority)
        if new is None:
            chain = ()  # what is made here signs itself
        if chain:
            check_chain(identity.certificate, chain)
        _set_aside(home, me, f"{own.serial}.lost" if lost else str(own.serial))
        if new is None:
            identity.save(home.keys)
        else:
            _install(home, me, *new)
        revoked = (*consortium.revoked, Revoked(fingerprint(own.certificate), me))
        own = replace(own, serial=own.serial + 1, certificate=identity.certificate, authority=chain)
        consortium = replace(consortium, members={**consortium.members, me: own}, revoked=revoked)
        consortium.save(home)
        return publish(home, consortium, identity, previous)


def remove(home: Home, name: str) -> None:
    """Remove a member and revoke its certificate; each other member does the same.

    Raises:
      UsageError: no member of this name, or this organisation itself.
    """
    with home.transaction():
        consortium = Consortium.load(home)
        if name == consortium.me:
            raise UsageError(f"{name} is this organisation; the others remove it, and it deletes its folder")
        gone = consortium.members.get(name)
        if gone is None:
            raise UsageError(
                f"{name} is no member of {consortium.name}, which has {', '.join(consortium.members)}"
            )
        members = {other: member for other, member in consortium.members.items() if other != name}
        replace(
            consortium,
            members=members,
            removed=(*consortium.removed, Removed(name, gone.id, gone.serial)),
            revoked=(*consortium.revoked, Revoked(fingerprint(gone.certificate), name)),
        ).save(home)


def _changes(known: Organisation, told: MemberFile, *, vouched: bool) -> list[str]:
    """Return what a member changed of itself, if what vouches for it is enough."""
    name, new = known.name, told.member
    if new.id != known.id:
        raise UsageError(
            f"this is another organisation of the name {name}, or {name} began anew; remove {name} first, and then add it"
        )
    if new.serial <= known.serial:
        raise UsageError(
            f"{name}'s file has number {new.serial}, and number {known.serial} is known already; ask for its "
            "newest member file"
        )
    before, after = (one.plain() | {"approvers": ", ".join(one.shown_approvers())} for one in (known, new))
    changes = [
        f"{name}: {what} was {before[what]}, and is {after[what]}"
        for what in before
        if before[what] != after[what]
    ]
    if fingerprint(new.certificate) == fingerprint(known.certificate):
        return changes
    if vouched:
        return [*changes, f"{name}: its new certificate is the one that was told by phone"]
    if known.authority and after["authority"][-1:] == before["authority"][-1:]:
        check_chain(new.certificate, [*new.authority[:-1], known.authority[-1]])
        return [*changes, f"{name}: the authority that issued the certificate before issued the new one"]
    try:
        told.check_previous(known.certificate)
    except AuthenticationError:
        raise AuthenticationError(
            f"{name}'s new certificate {fingerprint(new.certificate)} is not signed by its key before, and no known "
            f"authority issued it; ask {name} by phone for the fingerprint, and give it with --fingerprint",
            peer=name,
        ) from None
    return [*changes, f"{name}: its key before signed the new certificate"]


def _check_distinct(consortium: Consortium, member: Organisation) -> None:
    for other in consortium.members.values():
        if other.id == member.id or fingerprint(other.certificate) == fingerprint(member.certificate):
            raise UsageError(
                f"{member.name} has the number or certificate of {other.name}; each organisation has its own"
            )


def _previous(home: Home, me: str) -> Identity:
    try:
        return own_identity(home, me)
    except UsageError as error:
        raise UsageError(
            f"the old key cannot sign: {error}; if it is lost or its certificate expired, give --lost, and tell the others "
            "the new fingerprint by phone"
        ) from None


def _set_aside(home: Home, me: str, number: str) -> None:
    for ending in ("key", "crt"):
        path = home.keys / f"{me}.{ending}"
        if path.exists():
            path.rename(home.keys / f"{me}.{number}.{ending}")


def _set_aside_before(home: Home, me: str) -> Identity | None:
    """Return the key before this one: who has not added the last rotation yet knows that one."""
    numbers = [
        path.name.removeprefix(f"{me}.").removesuffix(".key") for path in home.keys.glob(f"{me}.*.key")
    ]
    serials = sorted(int(number) for number in numbers if number.isdecimal())
    if not serials:
        return None
    stem = home.keys / f"{me}.{serials[-1]}"
    try:
        return load_identity(me, stem.with_name(f"{stem.name}.key"), stem.with_name(f"{stem.name}.crt"))
    except UsageError:  # its certificate has expired, or somebody took the files away
        return None


def _install(home: Home, me: str, key: Path, certificate: Path) -> None:
    identity = load_identity(me, key, certificate)
    try:
        write_file(home.keys / f"{me}.key", key.read_bytes(), mode=0o600)
        write_file(home.keys / f"{me}.crt", certificate_pem(identity.certificate), mode=0o644)
    except OSError as error:
        raise UsageError(
            f"cannot write {me}'s key and certificate to {home.keys}: {error.strerror}"
        ) from None
