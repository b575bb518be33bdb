package cli

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/client"
)

// pages reads a list to its end, page by page, and hands each item to print.
func pages[T any](ctx context.Context, c *client.Client, path string, q query, print func(*T) error) error {
	for next := ""; ; {
		var page struct {
			Items []T    `json:"items"`
			Next  string `json:"next"`
		}
		q["after"], q["limit"] = next, "1000"
		if err := c.Call(ctx, http.MethodGet, path+q.String(), nil, &page); err != nil {
			return err
		}
		for i := range page.Items {
			if err := print(&page.Items[i]); err != nil {
				return err
			}
		}
		if next = page.Next; next == "" {
			return nil
		}
	}
}

func presetPath(object, name string) string {
	return "/v1/objects/" + url.PathEscape(object) + "/presets/" + url.PathEscape(name)
}

// ListPresets prints presets, or what they are at an object.
func ListPresets(ctx context.Context, c *client.Client, out Out, object, user string) error {
	if object != "" {
		return pages(ctx, c, "/v1/objects/"+url.PathEscape(object)+"/presets", query{"user": user}, out.presetPlace)
	}
	return pages(ctx, c, "/v1/presets", query{}, func(p *belfry.Preset) error {
		if out.JSON {
			return out.Value(p)
		}
		who := "administrators"
		if len(p.Roles) > 0 {
			who += " and " + strings.Join(p.Roles, ", ")
		}
		where := "any object"
		if len(p.ObjectTypes) > 0 {
			where = strings.Join(p.ObjectTypes, ", ")
		}
		return out.Line("%-24s  %s  (at %s, by %s)", clean(p.Name), clean(p.Title), clean(where), clean(who))
	})
}

func (o Out) presetPlace(p *belfry.PresetPlace) error {
	if o.JSON {
		return o.Value(p)
	}
	line := ""
	if p.Because != "" {
		line += "  " + clean(p.Because)
	}
	if len(p.Above) > 0 {
		line += "  on above, at " + clean(strings.Join(p.Above, ", "))
	}
	return o.Line("%-6s  %-24s  %s%s", p.State, clean(p.Preset), clean(p.Object), line)
}

// PresetPlaces prints where a preset is on.
func PresetPlaces(ctx context.Context, c *client.Client, out Out, name string) error {
	return pages(ctx, c, "/v1/presets/"+url.PathEscape(name)+"/objects", query{}, out.presetPlace)
}

// PutPreset stores a preset out of a file.
func PutPreset(ctx context.Context, c *client.Client, out Out, name, file string, in io.Reader) error {
	raw, err := readFile(file, in, "preset", "one preset is far smaller")
	if err != nil {
		return err
	}
	var p json.RawMessage
	resp, err := c.Send(ctx, http.MethodPut, "/v1/presets/"+url.PathEscape(name), "application/json", strings.NewReader(string(raw)))
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
		return err
	}
	if out.JSON {
		return out.Value(p)
	}
	return out.Line("preset %s is stored", clean(name))
}

// SwitchPreset switches a preset on or off at an object.
func SwitchPreset(ctx context.Context, c *client.Client, out Out, name, object, user string, on bool) error {
	path := presetPath(object, name) + query{"user": user}.String()
	if !on {
		if err := c.Call(ctx, http.MethodDelete, path, nil, nil); err != nil {
			return err
		}
		if out.JSON {
			return out.Value(map[string]string{"preset": name, "object": object, "state": belfry.PresetOff})
		}
		return out.Line("preset %s is off at %s", clean(name), clean(object))
	}
	var s struct {
		ID       string   `json:"id"`
		Readable string   `json:"readable"`
		State    string   `json:"state"`
		Warnings []string `json:"warnings,omitempty"`
	}
	if err := c.Call(ctx, http.MethodPut, path, nil, &s); err != nil {
		return err
	}
	if out.JSON {
		return out.Value(s)
	}
	if err := out.Line("preset %s is on at %s: %s\n%s", clean(name), clean(object), s.ID, clean(s.Readable)); err != nil {
		return err
	}
	for _, w := range s.Warnings {
		if err := out.Line("warning: %s", clean(w)); err != nil {
			return err
		}
	}
	return nil
}

// PresetOffEverywhere switches a preset off at each object where it is on.
func PresetOffEverywhere(ctx context.Context, c *client.Client, out Out, name, because string) error {
	var answer struct {
		Ended int `json:"ended"`
	}
	if err := c.Call(ctx, http.MethodPost, "/v1/presets/"+url.PathEscape(name)+"/off", map[string]string{"because": because}, &answer); err != nil {
		return err
	}
	if out.JSON {
		return out.Value(answer)
	}
	return out.Line("preset %s is off; it was on at %d objects", clean(name), answer.Ended)
}

// DeletePreset deletes a preset.
func DeletePreset(ctx context.Context, c *client.Client, out Out, name string) error {
	if err := c.Call(ctx, http.MethodDelete, "/v1/presets/"+url.PathEscape(name), nil, nil); err != nil || out.JSON {
		return err
	}
	return out.Line("preset %s is deleted", clean(name))
}
