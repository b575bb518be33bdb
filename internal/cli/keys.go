package cli

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/client"
)

// Key is a key as the API shows it.
type Key struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Permissions []string  `json:"permissions"`
	App         string    `json:"app,omitempty"`
	Root        bool      `json:"root,omitempty"`
	Created     time.Time `json:"created"`
	CreatedBy   string    `json:"created_by,omitempty"`
	Token       string    `json:"key,omitempty"`
}

// KeyDraft is a key to be made.
type KeyDraft struct {
	Name        string   `json:"name"`
	Permissions []string `json:"permissions"`
	App         string   `json:"app,omitempty"`
	Root        bool     `json:"root,omitempty"`
}

// CreateKey makes a key and prints it, this once.
func CreateKey(ctx context.Context, c *client.Client, out Out, d KeyDraft) error {
	if d.Permissions == nil {
		d.Permissions = []string{}
	}
	var k Key
	if err := c.Call(ctx, http.MethodPost, "/v1/keys", d, &k); err != nil {
		return err
	}
	if out.JSON {
		return out.Value(k)
	}
	return out.Line("%s  %s\n\n    %s\n\nKeep it: it is not shown again.", k.ID, clean(k.Name), k.Token)
}

// ListKeys prints every key, never its secret.
func ListKeys(ctx context.Context, c *client.Client, out Out) error {
	for next := ""; ; {
		var page struct {
			Items []Key  `json:"items"`
			Next  string `json:"next"`
		}
		if err := c.Call(ctx, http.MethodGet, "/v1/keys"+query{"after": next, "limit": "1000"}.String(), nil, &page); err != nil {
			return err
		}
		for _, k := range page.Items {
			var err error
			if out.JSON {
				err = out.Value(k)
			} else {
				may := strings.Join(k.Permissions, ", ")
				if k.Root {
					may = "everything (root)"
				}
				err = out.Line("%s  %s  %s  %s", k.ID, stamp(k.Created), clean(k.Name), may)
			}
			if err != nil {
				return err
			}
		}
		if next = page.Next; next == "" {
			return nil
		}
	}
}

// RevokeKey ends a key.
func RevokeKey(ctx context.Context, c *client.Client, out Out, id string) error {
	if err := c.Call(ctx, http.MethodDelete, "/v1/keys/"+url.PathEscape(id), nil, nil); err != nil {
		return err
	}
	if out.JSON {
		return out.Value(map[string]string{"revoked": id})
	}
	return out.Line("%s is revoked", id)
}
