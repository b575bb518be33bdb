package manage

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/expr"
	"github.com/belfryhq/belfry/internal/words"
)

// labelTypes is how many event types are asked for labels at most.
const labelTypes = 20

// schemas are those of the event types of a subscription. A type that is a
// prefix, or not in the catalogue, has none.
func (m *Manager) schemas(ctx context.Context, tenant string, types []string) (out []json.RawMessage, err error) {
	for _, t := range types[:min(len(types), labelTypes)] {
		if strings.HasSuffix(t, "*") {
			continue
		}
		doc, ok, err := m.store.Document(ctx, tenant, belfry.KindEventType, t)
		if err != nil {
			return nil, err
		}
		var et belfry.EventType
		if ok && json.Unmarshal(doc.Body, &et) == nil {
			out = append(out, et.Schema)
		}
	}
	return out, nil
}

// labelsOf are what schemas call the fields and values of data; what several
// call differently is the first one's.
func labelsOf(schemas []json.RawMessage, languages ...string) expr.Labels {
	out := expr.Labels{}
	for _, schema := range schemas {
		for path, label := range expr.LabelsOf(schema, languages...) {
			if _, known := out[path]; !known {
				out[path] = label
			}
		}
	}
	return out
}

// FilterWords says a filter in a reader's language, with the labels of event
// types; empty for one that cannot be read, or is none.
func (m *Manager) FilterWords(ctx context.Context, tenant, filter string, types []string, p *words.Printer) (string, error) {
	if filter == "" {
		return "", nil
	}
	schemas, err := m.schemas(ctx, tenant, types)
	if err != nil {
		return "", err
	}
	text, err := expr.Readable(filter, p, labelsOf(schemas, p.Language()))
	if err != nil {
		return "", nil // it compiled when it was saved: a later version may see it otherwise
	}
	return text, nil
}
