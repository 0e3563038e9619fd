"""DNS messages about a cluster's names. Pure: a question's bytes in, its answer's out."""

from __future__ import annotations

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from labs.kubelet.names import DOMAIN, Objects, records

TTL = 5
_SMALLEST = 512  # bytes that every UDP client takes (RFC 1035)
_LARGEST = 65535
_LONGEST_CHAIN = 8
_ZONE = dns.name.from_text(".".join(DOMAIN))


def answer(wire: bytes, objects: Objects | None, *, stream: bool = False) -> bytes | None:
    """The answer to a DNS message; None to one that deserves none. Without ``objects`` nothing is known yet.

    Over UDP (not ``stream``) an answer that is too long is cut, which makes the client ask again over TCP.
    """
    try:
        query = dns.message.from_wire(wire)
        response = dns.message.make_response(query, recursion_available=True)
    except dns.exception.DNSException:
        return None
    response.set_rcode(_fill(query, response, objects))
    payload = max(query.payload, _SMALLEST) if query.edns >= 0 else _SMALLEST
    return response.to_wire(max_size=_LARGEST if stream else payload, prefer_truncation=True)


def _fill(query: dns.message.Message, response: dns.message.Message, objects: Objects | None) -> dns.rcode.Rcode:
    if query.opcode() != dns.opcode.QUERY:
        return dns.rcode.NOTIMP
    if len(query.question) != 1:
        return dns.rcode.FORMERR
    if query.question[0].rdclass != dns.rdataclass.IN:
        return dns.rcode.REFUSED
    if objects is None:
        return dns.rcode.SERVFAIL
    name, wanted = query.question[0].name, dns.rdatatype.to_text(query.question[0].rdtype)
    if not name.is_subdomain(_ZONE):
        return dns.rcode.NXDOMAIN  # a lab has nobody to ask about the rest of the world
    response.flags |= dns.flags.AA
    for _ in range(_LONGEST_CHAIN):
        found = records([label.lower().decode("latin-1") for label in name.labels[:-1]], objects)
        if found is None:
            return dns.rcode.NXDOMAIN
        kind = wanted if wanted in found or "CNAME" not in found else "CNAME"
        if kind not in found:
            break
        response.answer.append(dns.rrset.from_text_list(name, TTL, "IN", kind, found[kind]))
        if kind == wanted:
            break
        name = dns.name.from_text(found[kind][0])
        if not name.is_subdomain(_ZONE):
            break
    return dns.rcode.NOERROR
