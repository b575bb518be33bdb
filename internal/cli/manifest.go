package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/belfryhq/belfry/internal/client"
)

// manifestChange is what becomes of a thing of a manifest.
type manifestChange struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	ID     string `json:"id"`
	Action string `json:"action"`
	Diff   []struct {
		Pointer string          `json:"pointer"`
		Before  json.RawMessage `json:"before"`
		After   json.RawMessage `json:"after"`
	} `json:"diff"`
	Secret   string   `json:"secret"`
	Warnings []string `json:"warnings"`
}

// signs of the actions, as differences are shown.
var signs = map[string]string{"create": "+", "update": "~", "delete": "-", "left": "?"}

// Apply sends a manifest, YAML or JSON, and prints what it changes.
func Apply(ctx context.Context, c *client.Client, out Out, file string, in io.Reader, dry, prune bool) error {
	raw, err := readFile(file, in, "manifest", "make several, with names of their own")
	if err != nil {
		return err
	}
	asJSON, err := fromYAML(raw)
	if err != nil {
		return fmt.Errorf("%s is no manifest: %w", file, err)
	}
	if asJSON, err = fromEnvironment(asJSON, os.LookupEnv); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	q := query{}
	if dry {
		q["dry_run"] = "true"
	}
	if prune {
		q["prune"] = "true"
	}
	var answer json.RawMessage
	if err := c.Call(ctx, http.MethodPost, "/v1/configuration:apply"+q.String(), asJSON, &answer); err != nil {
		return err
	}
	if out.JSON {
		return out.Value(answer)
	}
	var r struct {
		Name    string           `json:"name"`
		Changes []manifestChange `json:"changes"`
		Created, Updated, Unchanged,
		Deleted, Left int
	}
	if err := json.Unmarshal(answer, &r); err != nil {
		return err
	}
	for i := range r.Changes {
		if err := r.Changes[i].print(out); err != nil {
			return err
		}
	}
	said := "done"
	if dry {
		said = "a dry run: nothing was changed"
	}
	if r.Left > 0 {
		said += "; --prune removes what is left of what the manifest made before"
	}
	return out.Line("manifest %s: %d created, %d updated, %d unchanged, %d deleted, %d left (%s)", clean(r.Name), r.Created, r.Updated, r.Unchanged, r.Deleted, r.Left, said)
}

func (c *manifestChange) print(out Out) error {
	sign, ok := signs[c.Action]
	if !ok { // unchanged
		return c.warn(out)
	}
	id := ""
	if c.ID != "" && c.ID != c.Name {
		id = " (" + clean(c.ID) + ")"
	}
	if err := out.Line("%s %s %s%s", sign, c.Kind, clean(c.Name), id); err != nil {
		return err
	}
	for _, d := range c.Diff {
		if err := out.Line("    %s: %s -> %s", clean(d.Pointer), short(d.Before), short(d.After)); err != nil {
			return err
		}
	}
	if c.Secret != "" {
		if err := out.Line("    secret: %s   Keep it: it is not shown again.", c.Secret); err != nil {
			return err
		}
	}
	return c.warn(out)
}

// warn says what is allowed but perhaps not meant.
func (c *manifestChange) warn(out Out) error {
	for _, w := range c.Warnings {
		if err := out.Line("! %s %s: %s", c.Kind, clean(c.Name), clean(w)); err != nil {
			return err
		}
	}
	return nil
}

// short is a value in a line; what is absent is nothing.
func short(raw json.RawMessage) string {
	if len(raw) == 0 {
		return "nothing"
	}
	var v any
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if json.Unmarshal(raw, &v) != nil || enc.Encode(v) != nil {
		return "?" // what the server sends is JSON
	}
	text := clean(strings.TrimSpace(b.String()))
	if len(text) > 200 {
		return strings.ToValidUTF8(text[:200], "") + "…"
	}
	return text
}

// fromEnvironment puts the values of variables where settings of channels and
// sources name them: secret: env NAME.
func fromEnvironment(raw json.RawMessage, variable func(string) (string, bool)) (json.RawMessage, error) {
	var file map[string]any
	if json.Unmarshal(raw, &file) != nil {
		return raw, nil // the server says what is wrong with it
	}
	for _, part := range []string{"channels", "sources"} {
		list, _ := file[part].([]any)
		for _, thing := range list {
			fields, _ := thing.(map[string]any)
			settings, _ := fields["settings"].(map[string]any)
			for setting, value := range settings {
				text, _ := value.(string)
				name, names := strings.CutPrefix(text, "secret: env ")
				if !names {
					continue
				}
				found, set := variable(strings.TrimSpace(name))
				if !set || found == "" {
					return nil, fmt.Errorf("%s %v, setting %s: the variable %s is not set", part, fields["name"], setting, strings.TrimSpace(name))
				}
				settings[setting] = found
			}
		}
	}
	return json.Marshal(file)
}

// fromYAML is YAML, and so also JSON, as JSON.
func fromYAML(raw []byte) (json.RawMessage, error) {
	if !utf8.Valid(raw) {
		return nil, fmt.Errorf("it is not UTF-8")
	}
	in := yaml.NewDecoder(bytes.NewReader(raw))
	var v any
	if err := in.Decode(&v); err != nil {
		return nil, err
	}
	var more any
	if err := in.Decode(&more); err != io.EOF {
		return nil, fmt.Errorf("it holds more than one document: apply them one by one")
	}
	out, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("its keys must be texts: %w", err)
	}
	return out, nil
}

// toYAML is JSON as YAML, in the same order.
func toYAML(raw []byte) ([]byte, error) {
	var n yaml.Node
	if err := yaml.Unmarshal(raw, &n); err != nil { // JSON is YAML
		return nil, err
	}
	plain(&n)
	var b bytes.Buffer
	out := yaml.NewEncoder(&b)
	out.SetIndent(2)
	if err := out.Encode(&n); err != nil {
		return nil, err
	}
	return b.Bytes(), out.Close()
}

// plain takes the brackets and quotes of JSON off, where YAML needs none.
func plain(n *yaml.Node) {
	n.Style = 0
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" && strings.Contains(n.Value, "\n") {
		n.Style = yaml.LiteralStyle
	}
	for _, c := range n.Content {
		plain(c)
	}
}

// ExportConfiguration writes the configuration as a manifest: YAML, or JSON.
func ExportConfiguration(ctx context.Context, c *client.Client, out Out, name string) error {
	var raw json.RawMessage
	if err := c.Call(ctx, http.MethodGet, "/v1/configuration", nil, &raw); err != nil {
		return err
	}
	if name != "" {
		quoted, err := json.Marshal(name)
		if err != nil {
			return err
		}
		raw = append([]byte(`{"name":`+string(quoted)+`,`), bytes.TrimPrefix(bytes.TrimSpace(raw), []byte("{"))...)
	}
	if out.JSON {
		return out.Value(raw)
	}
	text, err := toYAML(raw)
	if err != nil {
		return err
	}
	_, err = out.Write(text)
	return err
}
