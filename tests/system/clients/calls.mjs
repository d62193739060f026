// The calls that the two JavaScript drivers make: the library's method and its fields, by the name of the call.

const moment = new Date('2015-11-10T00:45:23.412Z')
const options = {
  userId: '1234',
  anonymousId: 'a-1234',
  context: { ip: '192.0.2.7', locale: 'en', app: { name: 'tours', build: 17 } },
  timestamp: moment,
  integrations: { Mailing: false },
}

export const calls = {
  identify: ['identify', { ...options, traits: { name: 'Arthur Dent', email: 'arthur@example.com' } }],
  track: ['track', { ...options, event: 'Added File', properties: { fileType: 'PDF', sizes: [1, 2.5] } }],
  page: ['page', { ...options, category: 'Blog', name: 'Questions', properties: { url: 'http://example.com/' } }],
  screen: ['screen', { ...options, category: 'Settings', name: 'Sound', properties: { volume: 11 } }],
  group: ['group', { ...options, groupId: '5678', traits: { name: 'The Hitchhikers', employees: 42 } }],
  alias: ['alias', { userId: '5678', previousId: '1234', timestamp: moment }],
}

function nested(depth) {
  let value = {}
  for (let level = 0; level < depth; level++) value = { in: value }
  return value
}

const odd = {
  property: {
    null: null,
    undefined: undefined,
    NaN: NaN,
    Infinity: Infinity,
    '2**70': 2 ** 70,
    'a small float': 5e-324,
    'a lone surrogate': '\ud800',
    'an emoji': '\u{1f418}',
    'a NUL': 'a\0b',
    'a Date': moment,
    'no Date': new Date(NaN),
    'a Map': new Map([[1, 2]]),
    'a function': () => 1,
    'odd keys': { '': 1, 'a.b': 2, $: 3, writeKey: 4, ['__proto__']: 5 },
    '150 levels': nested(150),
    '250 levels': nested(250),
    '30 KB': 'x'.repeat(30_000),
    '600 KB': 'x'.repeat(600_000),
  },
  id: {
    'a number': 1234,
    0: 0,
    'a float': 12.5,
    '2**70': 2 ** 70,
    true: true,
    NaN: NaN,
    blank: ' ',
    'a list': [1],
    'a NUL': 'a\0b',
    'a lone surrogate': '\udfff',
    '600 characters': 'x'.repeat(600),
  },
  timestamp: {
    'the epoch': new Date(0),
    'in the year 1': new Date('0001-01-01T00:00:00Z'),
    'in the year 10000': new Date('+010000-01-01T00:00:00Z'),
    'no Date': new Date(NaN),
    'an epoch number': 1447116323,
    'a text': '2015-11-10T00:45:23Z',
    'a word': 'soon',
  },
  event: { empty: '', null: null, 'a number': 7, 'a lone surrogate': '\ud800', 'a NUL': 'a\0b' },
  messageId: { 'a number': 7, '300 characters': 'x'.repeat(300), 'a lone surrogate': '\ud800' },
}

function vary(kind, values, call) {
  for (const [name, value] of Object.entries(values)) calls[`${kind}: ${name}`] = call(value)
}

vary('property', odd.property, (odd) => ['track', { userId: '1', event: 'Odd', properties: { odd } }])
vary('trait', odd.property, (odd) => ['identify', { userId: '1', traits: { odd } }])
vary('userId', odd.id, (userId) => ['page', { userId }])
vary('anonymousId', odd.id, (anonymousId) => ['screen', { anonymousId }])
vary('groupId', odd.id, (groupId) => ['group', { userId: '1', groupId }])
vary('previousId', odd.id, (previousId) => ['alias', { userId: '1', previousId }])
vary('timestamp', odd.timestamp, (timestamp) => ['track', { userId: '1', event: 'Odd', timestamp }])
vary('event', odd.event, (event) => ['track', { userId: '1', event }])
vary('messageId', odd.messageId, (messageId) => ['track', { userId: '1', event: 'Odd', messageId }])
