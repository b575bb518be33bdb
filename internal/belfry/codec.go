package belfry

import (
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"
)

// endpointBody is the stored form of an endpoint: the document the API shows
// and, beside it, the sealed secrets that it never shows.
type endpointBody struct {
	Endpoint Endpoint         `json:"endpoint"`
	Secrets  []EndpointSecret `json:"secrets,omitempty"`
}

// EncodeEndpoint makes the body of a document of kind endpoint; the secrets
// stay sealed as they are.
func EncodeEndpoint(e Endpoint) ([]byte, error) {
	return json.Marshal(endpointBody{Endpoint: e, Secrets: e.Secrets})
}

// DecodeEndpoint is the inverse of EncodeEndpoint. The version is the
// document's, which the store sets, and wins over the one in the body when it
// is not zero.
func DecodeEndpoint(d Document) (Endpoint, error) {
	var b endpointBody
	if err := json.Unmarshal(d.Body, &b); err != nil {
		return Endpoint{}, Errorf(Internal, "endpoint %s is stored in a form this version does not read: %w", d.ID, err)
	}
	e := b.Endpoint
	e.Secrets = b.Secrets
	if e.ID == "" {
		e.ID = d.ID
	}
	if d.Version != 0 {
		e.Version = d.Version
	}
	return e, nil
}

// EndpointSecretContext is the associated data under which an endpoint's
// secrets are sealed, so that one cannot be moved to another endpoint.
func EndpointSecretContext(tenant, id string) []byte {
	return []byte("endpoint\x00" + tenant + "\x00" + id)
}

// NormaliseEmail is the form in which e-mail addresses are compared, looked up
// and told apart: no space around, all lower case. Local parts may differ by
// case in theory; no mailbox in use does, and two mails to one person would be
// the price of minding it.
func NormaliseEmail(address string) string {
	return strings.ToLower(strings.TrimSpace(address))
}

// maxName is the longest id or address, in bytes.
const maxName = 512

// CanBeName reports whether a text taken out of an event can be an id or an
// address. No store can be asked for what cannot, and asking for it would fail
// again whenever the event is planned anew.
func CanBeName(s string) bool {
	return s != "" && len(s) <= maxName && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
