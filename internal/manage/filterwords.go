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

// labels are what the event types of a subscription call the fields and values
// of their data; what several call differently is the first one's. A type that
// is a prefix, or not in the catalogue, has none.
func (m *Manager) labels(ctx context.Context, tenant string, types []string, languages ...string) (expr.Labels, error) {
	out := expr.Labels{}
	for _, t := range types[:min(len(types), labelTypes)] {
		if strings.HasSuffix(t, "*") {
			continue
		}
		doc, ok, err := m.store.Document(ctx, tenant, belfry.KindEventType, t)
		if err != nil {
			return nil, err
		}
		var et belfry.EventType
		if !ok || json.Unmarshal(doc.Body, &et) != nil {
			continue
		}
		for path, label := range expr.LabelsOf(et.Schema, languages...) {
			if _, known := out[path]; !known {
				out[path] = label
			}
		}
	}
	return out, nil
}

// FilterWords says a filter in a reader's language, with the labels of event
// types; empty for one that cannot be read, or is none.
func (m *Manager) FilterWords(ctx context.Context, tenant, filter string, types []string, p *words.Printer) (string, error) {
	if filter == "" {
		return "", nil
	}
	labels, err := m.labels(ctx, tenant, types, p.Language())
	if err != nil {
		return "", err
	}
	text, err := expr.Readable(filter, p, labels)
	if err != nil {
		return "", nil // it compiled when it was saved: a later version may see it otherwise
	}
	return text, nil
}
