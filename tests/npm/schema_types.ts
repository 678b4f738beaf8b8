// The types of the official clients that the server's responses must have (schemas.js), under names
// that no type of theirs has.
import type Anthropic from '@anthropic-ai/sdk';
import type OpenAI from 'openai';

export type ChatAnswer = OpenAI.Chat.ChatCompletion;
export type ChatChunk = OpenAI.Chat.ChatCompletionChunk;
export type CompletionAnswer = OpenAI.Completion;
// The package has Completion for these, too. But the reason comes last, and with include_usage the
// usage, as OpenAI's reference says.
export interface CompletionChunk extends Omit<OpenAI.Completion, 'choices' | 'usage'> {
  choices: (Omit<OpenAI.CompletionChoice, 'finish_reason'> & {
    finish_reason: OpenAI.CompletionChoice['finish_reason'] | null;
  })[];
  usage?: OpenAI.CompletionUsage | null;
}
export type ResponsesAnswer = OpenAI.Responses.Response;
export type ResponsesEvent = OpenAI.Responses.ResponseStreamEvent;
export type ResponsesItem = OpenAI.Responses.ResponseItem; // of a stored request
export type ResponsesTokens = OpenAI.Responses.InputTokenCountResponse;
export type ServedModel = OpenAI.Model;
export interface ModelList {
  object: 'list';
  data: OpenAI.Model[];
}
export interface OpenAIError {
  error: OpenAI.ErrorObject;
}

export type MessagesAnswer = Anthropic.Message;
export type MessagesEvent = Anthropic.RawMessageStreamEvent;
export type BetaMessagesAnswer = Anthropic.Beta.BetaMessage; // of /v1/messages?beta=true
export type BetaMessagesEvent = Anthropic.Beta.BetaRawMessageStreamEvent;
export type BetaTokensCount = Anthropic.Beta.BetaMessageTokensCount;
export type TokensCount = Anthropic.MessageTokensCount;
export type AnthropicError = Anthropic.ErrorResponse;
export type AnthropicModel = Anthropic.ModelInfo;
export type BetaAnthropicModel = Anthropic.Beta.BetaModelInfo;
export interface AnthropicModelList {
  data: Anthropic.ModelInfo[];
  has_more: boolean;
  first_id: string | null;
  last_id: string | null;
}
