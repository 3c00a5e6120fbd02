"""Messages are read and written in JSON as etcd's gateway does it, and errors have Go's words."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trioraft.etcd import messages as api
from trioraft.etcd.proto_json import (
    Documents,
    JsonError,
    decode,
    decode_carefully,
    decode_fast,
    encode,
    encode_in_pieces,
    fields_of,
    plain,
)

MESSAGES = sorted(
    (one for one in vars(api).values() if isinstance(one, type) and issubclass(one, api.Message)),
    key=lambda one: one.__name__,
)

INT64 = st.integers(-(2**63), 2**63 - 1)
BYTES = st.binary(max_size=20)

PUTS = st.builds(api.PutRequest, BYTES, BYTES, INT64, st.booleans(), st.booleans(), st.booleans())
RANGES = st.builds(
    api.RangeRequest, BYTES, BYTES, INT64, INT64, st.sampled_from(api.SortOrder), st.sampled_from(api.SortTarget)
)
COMPARES = st.builds(
    api.Compare, st.sampled_from(api.CompareResult), st.sampled_from(api.CompareTarget), BYTES, INT64, INT64
)


def _txns(operations: st.SearchStrategy[api.RequestOp]) -> st.SearchStrategy[api.TxnRequest]:
    several, few = st.lists(operations, max_size=3), st.lists(operations, max_size=1)
    return st.builds(api.TxnRequest, st.lists(COMPARES, max_size=2), several, few)


OPERATIONS = st.recursive(
    st.builds(api.RequestOp, RANGES) | st.builds(api.RequestOp, st.none(), PUTS),
    lambda inner: st.builds(api.RequestOp, st.none(), st.none(), st.none(), _txns(inner)),
    max_leaves=5,
)
TXNS = _txns(OPERATIONS)


@settings(max_examples=200, deadline=None)
@given(st.one_of(PUTS, RANGES, TXNS))
def test_what_is_written_is_read_again_by_both_ways(message: api.Message) -> None:
    document = encode(message)
    assert decode_carefully(document, type(message)) == message
    fast = decode_fast(document, type(message))
    assert fast is None or fast == message


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | INT64 | st.floats(allow_nan=False) | st.text(max_size=5) | st.just("YQ=="),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["key", "value", "lease", "success", "request_put", "compare", "target", "x"]), inner
            )
        ),
        max_leaves=12,
    ),
    st.sampled_from([api.PutRequest, api.TxnRequest, api.WatchRequest]),
)
def test_any_document_is_a_message_or_an_error_and_the_fast_way_takes_nothing_else(
    document: Any, cls: type[api.Message]
) -> None:
    data = json.dumps(document).encode()
    fast = decode_fast(data, cls)
    try:
        careful = decode_carefully(data, cls)
    except JsonError:
        assert fast is None
    else:
        assert fast is None or fast == careful


@pytest.mark.parametrize(
    ("document", "error"),
    [
        (b"not json", "invalid character 'o' in literal null (expecting 'u')"),
        (b"[]", "json: cannot unmarshal array into Go value of type map[string]json.RawMessage"),
        (b'"a"', "json: cannot unmarshal string into Go value of type map[string]json.RawMessage"),
        (b'{"key": "YQ=="', "unexpected EOF"),
        (b'{"key": "_-8="}', "illegal base64 data at input byte 0"),
        (b'{"key": "YQ"}', "illegal base64 data at input byte 0"),
        (b'{"lease": 0e0}', "json: cannot unmarshal number 0e0 into Go value of type int64"),
        (b'{"lease": 1.5}', "json: cannot unmarshal number 1.5 into Go value of type int64"),
        (
            b'{"lease": 9223372036854775808}',
            "json: cannot unmarshal number 9223372036854775808 into Go value of type int64",
        ),
        (b'{"lease": "x"}', "invalid character 'x' looking for beginning of value"),
        (b'{"key": 1}', "json: cannot unmarshal number 1 into Go value of type []uint8"),
        (b"{a}", "invalid character 'a' looking for beginning of object key string"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a": 1 "b"}', "invalid character '\"' after object key:value pair"),
        (b'{"a": [1 2]}', "invalid character '2' after array element"),
        (b'{"a": 01}', "invalid character '1' after object key:value pair"),
        (b'{"a": -}', "invalid character '}' in numeric literal"),
        (b'{"a": "\n"}', "invalid character '\\n' in string literal"),
        (b'{"a": "\\x"}', "invalid character 'x' in string escape code"),
        (b'{"a": tru}', "invalid character '}' in literal true (expecting 'e')"),
        (b'{"a":' * 3000, "unexpected EOF"),
    ],
)
def test_errors_have_the_words_of_go(document: bytes, error: str) -> None:
    with pytest.raises(JsonError) as raised:
        decode(document, api.PutRequest)
    assert str(raised.value) in {error, "exceeded max depth"}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"", api.PutRequest()),
        (b"null", api.PutRequest()),
        (b'{"key": "YQ==", "unknown": [1]}', api.PutRequest(b"a")),
        (b'{"key": "Y\\nQ=="}', api.PutRequest(b"a")),
        (b'{"prevKv": true, "lease": null}', api.PutRequest(prev_kv=True)),
        (b'{"lease": "-5"} {"lease": 7}', api.PutRequest(lease=-5)),
        (b'{"lease": 7587821338341212999}', api.PutRequest(lease=7587821338341212999)),
    ],
)
def test_what_etcd_takes_is_taken(document: bytes, message: api.PutRequest) -> None:
    assert decode(document, api.PutRequest) == message


def test_a_large_document_in_camel_case_is_read_and_one_of_very_many_parts_is_refused() -> None:
    value = base64.b64encode(b"x" * 2**20)
    document = b'{"key": "YQ==", "prevKv": true, "value": "%s"}' % value
    assert decode(document, api.PutRequest) == api.PutRequest(b"a", b"x" * 2**20, prev_kv=True)
    for parts in (b'{"success": [%s{}]}' % (b"{}," * 50_001), b'{"x": [%s1]}' % (b"1," * 50_001), b"[" * 70_000):
        with pytest.raises(JsonError, match="more than 50000 parts"):
            decode(parts, api.TxnRequest)


def test_enumerations_are_names_or_numbers_and_an_unknown_number_is_the_first_name() -> None:
    document = b'{"sort_order": 7, "sortTarget": 4}'
    assert decode(document, api.RangeRequest) == api.RangeRequest(sort_target=api.SortTarget.VALUE)
    with pytest.raises(JsonError, match="unknown value"):
        decode(b'{"sort_order": "UP"}', api.RangeRequest)


def test_numbers_of_64_bits_are_texts_and_defaults_are_left_out_but_not_empty_messages() -> None:
    answer = api.TxnResponse(
        api.ResponseHeader(revision=2), responses=[api.ResponseOp(response_put=api.PutResponse())]
    )
    assert plain(answer) == {"header": {"revision": "2"}, "responses": [{"response_put": {}}]}
    assert plain(api.HashResponse(hash=7)) == {"hash": 7}


@pytest.mark.parametrize("message", MESSAGES, ids=lambda one: str(one.__name__))
def test_every_message_has_field_numbers_of_its_own_and_can_be_written(message: type[api.Message]) -> None:
    numbers = [field.number for field in fields_of(message)]
    assert len(set(numbers)) == len(numbers)
    assert all(type(number) is int and number > 0 for number in numbers)
    assert encode(message()) == b"{}"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.builds(api.WatchCancelRequest, INT64), max_size=4), st.lists(st.integers(1, 9), max_size=30))
def test_documents_are_found_wherever_a_body_is_cut(cancels: list[api.WatchCancelRequest], cuts: list[int]) -> None:
    messages = [api.WatchRequest(cancel_request=one) for one in cancels]
    body = b"\n".join(map(encode, messages))
    documents = Documents()
    found: list[api.WatchRequest] = []
    for size in cuts:
        documents.feed(body[:size])
        body = body[size:]
        found += documents.read(api.WatchRequest)
    documents.feed(body, ended=True)
    found += documents.read(api.WatchRequest, ended=True)
    assert found == messages


def test_a_document_with_braces_and_quotes_in_its_texts_is_one() -> None:
    documents = Documents()
    for character in '{"x": "}\\"}{", "cancel_request": {"watch_id": 3}}':
        assert not list(documents.read(api.WatchRequest))
        documents.feed(character.encode())
    assert list(documents.read(api.WatchRequest)) == [
        api.WatchRequest(cancel_request=api.WatchCancelRequest(3)),
    ]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.builds(api.KeyValue, BYTES, INT64, st.integers(1, 9), INT64, BYTES, INT64), max_size=5), st.booleans()
)
def test_a_large_answer_is_the_same_document_piece_by_piece(kvs: list[api.KeyValue], more: bool) -> None:
    answer = api.RangeResponse(api.ResponseHeader(1, 2, 3, 4), kvs, more, 7)
    whole = json.loads(encode(answer))
    assert json.loads(b"".join(encode_in_pieces(answer))) == {"kvs": [], **whole}
