package inbox_test

import (
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
	"github.com/belfryhq/belfry/internal/channel/inbox"
)

func TestInboxIsARowNotASend(t *testing.T) {
	k := inbox.Kind()
	if k.Name != belfry.ChannelInbox || k.New != nil || k.Contact != "" || k.Title == "" {
		t.Errorf("%+v", k)
	}
	if err := channel.Validate(k.Settings, nil); err != nil {
		t.Error(err)
	}
}
