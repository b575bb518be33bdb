package render

import (
	"encoding/json"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// WebhookContentType is the content type of WebhookBody.
const WebhookContentType = "application/json"

// EncodeEvent is the JSON object of an event as webhooks carry it: Belfry's
// own form, without the actor when the event is anonymous. Encode once an
// event and use the bytes for all its recipients. The error is of an event
// that did not come through ingest: its raw JSON is broken.
func EncodeEvent(e *belfry.Event) ([]byte, error) {
	if e.Actor != "" && e.Has(belfry.FlagAnonymous) {
		masked := *e
		masked.Actor = ""
		e = &masked
	}
	return json.Marshal(e)
}

// WebhookBody is the body of a webhook in the standard format: {"type",
// "timestamp","data":{event,"subscription","recipient"?}}. event is what
// EncodeEvent gave, at is the event's time. It is one allocation: fan-out
// calls it once a delivery.
func WebhookBody(event []byte, typ string, at time.Time, subscription, recipient string) []byte {
	const fixed = len(`{"type":,"timestamp":"","data":{,"subscription":,"recipient":}}`) + len(time.RFC3339Nano) + 3*len(`""`) + 16
	b := make([]byte, 0, fixed+len(event)+len(typ)+len(subscription)+len(recipient))
	b = append(b, `{"type":`...)
	b = appendString(b, typ)
	b = append(b, `,"timestamp":"`...)
	b = at.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","data":`...)
	n := len(event)
	for n > 0 && event[n-1] != '}' {
		n--
	}
	if n == 0 {
		b = append(b, '{')
	} else {
		b = append(b, event[:n-1]...)
	}
	comma := b[len(b)-1] != '{'
	if subscription != "" {
		b = appendField(b, "subscription", subscription, comma)
		comma = true
	}
	if recipient != "" {
		b = appendField(b, "recipient", recipient, comma)
	}
	return append(b, "}}"...)
}

func appendField(b []byte, name, value string, comma bool) []byte {
	if comma {
		b = append(b, ',')
	}
	b = append(b, '"')
	b = append(b, name...)
	b = append(b, `":`...)
	return appendString(b, value)
}

// appendString appends s as a JSON string.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f || c == '<' || c == '>' || c == '&' {
			quoted, err := json.Marshal(s)
			if err != nil { // a string always has a JSON form
				return append(b, `""`...)
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
