/** First process of the guest. */
import '../runtime/sys.ts';
import { Agent } from './agent.ts';
import { guest } from './machine/guest.ts';

new Agent(guest).run();
