package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/belfryhq/belfry/internal/client"
)

// ExportUser writes all that is held about a person, as lines of JSON or, when
// zipped, as an archive of them.
func ExportUser(ctx context.Context, c *client.Client, out io.Writer, id string, zipped bool) error {
	format := "jsonl"
	if zipped {
		format = "zip"
	}
	resp, err := c.Send(ctx, http.MethodGet, "/v1/users/"+url.PathEscape(id)+"/export?format="+format, "", nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if zipped {
		_, err = io.Copy(out, resp.Body)
		return err
	}
	in := bufio.NewReader(resp.Body)
	for last := []byte(nil); ; {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			last = line
			if _, err := out.Write(line); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF) && bytes.HasPrefix(last, []byte(`{"part":"end"`)):
			return nil
		case err != nil:
			return fmt.Errorf("the export is not whole: %w", err)
		}
	}
}
